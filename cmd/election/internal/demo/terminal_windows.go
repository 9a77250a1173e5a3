package demo

import (
	"os"

	"golang.org/x/sys/windows"
)

// terminalSize returns the width and height of the console that file is, and whether it can be
// drawn on. It switches the escape sequences on, which older consoles do not know.
func terminalSize(file *os.File) (width, height int, ok bool) {
	console := windows.Handle(file.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil ||
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return 0, 0, false
	}
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(console, &info) != nil {
		return 0, 0, false
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1, true
}
