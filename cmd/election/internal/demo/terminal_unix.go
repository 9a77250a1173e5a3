//go:build unix

package demo

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize returns the width and height of the terminal that file is, and whether it can be
// drawn on. A width of 0 is that of a terminal which does not tell.
func terminalSize(file *os.File) (width, height int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || os.Getenv("TERM") == "dumb" {
		return 0, 0, false
	}
	return int(size.Col), int(size.Row), true
}
