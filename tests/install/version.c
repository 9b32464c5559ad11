/* The smallest program against an installed Freehold: includes the header, calls the library, prints its version. */
#include <freehold/freehold.h>
#include <stdio.h>

int main(void) {
    puts(fh_version_string());
    return 0;
}
