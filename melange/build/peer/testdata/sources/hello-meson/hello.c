int hello_meson(void) { return 0; }
