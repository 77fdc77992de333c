/* symbol_version FILE FROM TO - what a shared library wants of symbol version FROM it wants of TO
 * from now on, another version that it already needs of the same library.
 *
 * libevent of Debian 12 needs GLIBC_2.36 for arc4random alone, which arc4random.c supplies; with the
 * version renamed the bundle runs with the glibc of older systems. */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The entry of version `name` in the section of needed versions. */
static Elf64_Vernaux *find(char *file, const Elf64_Shdr *needs, const char *strings,
                           const char *name)
{
    char *at = file + needs->sh_offset;
    for (Elf64_Word i = 0; i < needs->sh_info; i++) {
        const Elf64_Verneed *need = (const Elf64_Verneed *)at;
        char *entry = at + need->vn_aux;
        for (int k = 0; k < need->vn_cnt; k++) {
            Elf64_Vernaux *version = (Elf64_Vernaux *)entry;
            if (strcmp(strings + version->vna_name, name) == 0) return version;
            entry += version->vna_next;
        }
        at += need->vn_next;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct stat info;
    const int fd = argc == 4 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0 || fstat(fd, &info) != 0)
        return fputs("symbol_version: no file\n", stderr), 2;
    char *file =
        mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) return perror("symbol_version"), 2;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_GNU_verneed) continue;
        const char *strings = file + sections[sections[i].sh_link].sh_offset;
        Elf64_Vernaux *from = find(file, &sections[i], strings, argv[2]);
        const Elf64_Vernaux *to = find(file, &sections[i], strings, argv[3]);
        if (!from || !to) break;
        from->vna_hash = to->vna_hash;
        from->vna_name = to->vna_name;
        return munmap(file, (size_t)info.st_size) == 0 ? 0 : 2;
    }
    return fputs("symbol_version: no such versions\n", stderr), 1;
}
