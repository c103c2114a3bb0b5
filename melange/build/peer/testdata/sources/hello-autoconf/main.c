#include <stdio.h>
#include "hello.h"
int main(void) { return puts(hello()) < 0; }
