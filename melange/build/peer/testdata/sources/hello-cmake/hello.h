int hello_cmake(void);
