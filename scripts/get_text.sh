#!/usr/bin/env bash
# usage: scripts/get_text.sh FILE
#
# Write at least 4 MB of English prose to FILE, paragraphs between blank lines: the paragraphs of
# the PostgreSQL manual, whose Debian package is fetched and unpacked, not installed, and needs
# no root.  Without a package source: prose out of what is installed on this machine.  The last
# line printed says what the text is.
set -euo pipefail

if [[ $# -ne 1 || $1 == -* ]]; then
    echo "usage: scripts/get_text.sh FILE" >&2
    exit 2
fi
out=$1
enough=4000000
patience=(-q -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/yoke
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt-get run by root fetches as another user

# Paragraphs of HTML or plain files (named on standard input) that read like prose, each once.
paragraphs() {
    perl -e '
        use strict;
        my (%seen, $total);
        my %entity = (lt => "<", gt => ">", amp => "&", quot => "\"", nbsp => " ");
        sub keep {
            my ($p) = @_;
            $p =~ s/\s+/ /g;
            $p =~ s/^ | $//g;
            return if length $p < 60 || length $p > 20000;
            my $words = () = $p =~ /(?:^|[ ("])[A-Za-z][a-z]*(?=[ ,.;:!?)"]|$)/g;
            return if $words * 9 < length $p; # lists of names, code, tables
            return if $seen{$p}++;
            print "$p\n\n";
            $total += length($p) + 2;
        }
        while (my $file = <STDIN>) {
            chomp $file;
            my $packed = $file =~ /\.gz$/;
            open my $in, $packed ? ("-|", "gzip", "-dc", "--", $file) : ("<", $file) or next;
            my $text = do { local $/; <$in> };
            close $in;
            next unless defined $text && $text !~ /\0/;
            if ($file =~ /\.html(\.gz)?$/) {
                while ($text =~ m{<p(?:\s[^>]*)?>(.*?)</p>}gs) {
                    my $p = $1;
                    $p =~ s/<[^>]*>//g;
                    $p =~ s/&(\w+);/$entity{$1} \/\/ " "/ge;
                    keep($p);
                }
            } else {
                $text =~ s/^\.\\".*\n|^\.[A-Z]\S*.*\n//gm;   # requests of manual pages
                $text =~ s/\\f.|\\&|\\-/$& eq "\\-" ? "-" : ""/ge;
                keep($_) for split /\n\s*\n/, $text;
            }
            last if $total > 8e6;
        }'
}

# Fetch the first of the packages that can be had; extra arguments go to apt-get.
fetch() {
    local package
    for package in postgresql-doc-15 postgresql-doc-17 postgresql-doc-16 postgresql-doc-13; do
        (cd "$work" && apt-get "${patience[@]}" "$@" download "$package") >>"$work/log" 2>&1 || continue
        mkdir -p "$cache"
        rm -f "$cache"/postgresql-doc-*.deb
        mv "$work/$package"_*.deb "$cache/" && return 0
    done
    return 1
}

from_package() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    if ! compgen -G "$cache/postgresql-doc-*.deb" >/dev/null; then
        echo "text: fetching the PostgreSQL manual (2 MB)"
        # the system's package lists may be missing or old: read own ones into the work folder
        mkdir -p "$work"/{lists,cache}/partial
        fetch || {
            local own=(-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
            apt-get "${patience[@]}" "${own[@]}" update >>"$work/log" 2>&1 && fetch "${own[@]}"
        } || return 1
    fi
    local deb
    deb=$(compgen -G "$cache/postgresql-doc-*.deb" | head -n 1)
    mkdir -p "$work/unpacked"
    if ! dpkg-deb -x "$deb" "$work/unpacked"; then
        rm -f "$deb" # a torn download must not stay
        return 1
    fi
    find "$work/unpacked" -name '*.html' | LC_ALL=C sort | paragraphs >"$work/text"
    what="the PostgreSQL manual (Debian package $(basename "$deb"))"
}

from_machine() {
    {
        find /usr/share/doc /usr/share/perl /usr/lib/*/perl /usr/share/perl5 /usr/lib/python3 \
            /usr/lib/python3.* \( -name '*.html' -o -name '*.html.gz' -o -name '*.pod' \
            -o -name '*.txt' -o -name '*.txt.gz' -o -name '*.md' -o -name 'README*' \
            -o -name 'NEWS*' -o -name '*.pm' -o -name '*.py' \) -type f 2>/dev/null
        find /usr/share/man/man[1-8] /usr/share/info /usr/share/common-licenses -type f \
            2>/dev/null
        find /usr/share/doc -name copyright -type f 2>/dev/null
        find /usr/include /usr/lib/gcc -name '*.h' -type f 2>/dev/null
        find /usr/share/doc -name 'changelog*' -type f 2>/dev/null
    } | paragraphs >"$work/text" || true # find: a folder is missing, or enough was found
    what="prose found in files of this machine, since no package source answered"
}

size() { stat -c %s "$work/text" 2>/dev/null || echo 0; }

what=
if ! from_package || [[ $(size) -lt $enough ]]; then
    if [[ -s $work/log ]]; then sed -n '/^[EW]:/p' "$work/log" | tail -n 2 >&2; fi
    echo "text: no package source; looking for prose on this machine"
    from_machine
fi
if [[ $(size) -lt 500000 ]]; then
    echo "text: found $(size) bytes only; give a text of your own (quickstart.sh --text FILE)" >&2
    exit 1
fi
[[ $(size) -ge $enough ]] || echo "text: less than 4 MB; the model will learn less"
mkdir -p "$(dirname "$out")"
cp "$work/text" "$out.tmp"
mv "$out.tmp" "$out"
echo "text: $(($(size) / 1000)) kB, $what"
