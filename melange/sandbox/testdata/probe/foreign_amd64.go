package main

func int80(nr uintptr) uintptr

// foreign asks for getpid by the machine's other ABIs.
var foreign = map[string]tool{
	"i386": func([]string) error { int80(20); return nil },
	"x32":  call(1<<30 | 39),
}
