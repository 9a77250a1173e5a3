//go:build !unix

package dbtest

import (
	"errors"
	"io"
)

type keeper = io.WriteCloser

// launch would need a way to stop the server with a test binary that is killed.
func (p program) launch(int) (string, keeper, error) {
	return "", nil, errors.New("servers are not started on this operating system: set the environment variable")
}

func find([]string, ...string) (string, bool) { return "", false }

func findFile([]string, string) (string, bool) { return "", false }

func (s *server) signal(string) error { return errors.ErrUnsupported }
