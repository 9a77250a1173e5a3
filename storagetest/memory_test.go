package storagetest_test

import (
	"testing"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) (a, b election.Storage) {
		m := storagetest.NewMemory()
		return m, m.Handle()
	})
}
