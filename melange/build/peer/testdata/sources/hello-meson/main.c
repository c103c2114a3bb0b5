int hello_meson(void);
int main(void) { return hello_meson(); }
