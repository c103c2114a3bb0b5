package main

import (
	"fmt"
	"io"
	"sync"

	"distro.internal/shared/console"
)

// A meter is one live line for long work before the nodes.
type meter struct {
	console *console.Console
	mu      sync.Mutex
	text    string
}

func newMeter(out io.Writer) *meter {
	m := &meter{}
	m.console = console.New(out, func() []string {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.text == "" {
			return nil
		}
		return []string{m.text}
	})
	return m
}

// Show replaces the live line.
func (m *meter) Show(format string, a ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text = fmt.Sprintf(format, a...)
}

// Say prints a line that stays.
func (m *meter) Say(format string, a ...any) { m.console.Println(fmt.Sprintf(format, a...)) }

func (m *meter) Close() { m.console.Close() }
