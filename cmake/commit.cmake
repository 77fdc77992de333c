# cmake -D SOURCE=folder -D TO=file.c -P commit.cmake: a C file that holds the commit the folder is at,
# if it is a repository itself.  It is written only if it would change.
cmake_minimum_required(VERSION 3.18)
set(commit "")
if(EXISTS ${SOURCE}/.git)
  execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --exclude=*
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
file(CONFIGURE OUTPUT ${TO} CONTENT
  "#include \"core/commit.h\"\n\nconst char core_commit[] = \"${commit}\";\n")
