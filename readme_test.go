package election_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's example is the one that Example_embed runs, line by line.
func TestReadmeShowsTheExampleThatRuns(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, block, ok := strings.Cut(string(readme), "```go\n")
	require.True(t, ok)
	block, _, ok = strings.Cut(block, "\n```")
	require.True(t, ok)
	source, err := os.ReadFile("example_embed_unix_test.go")
	require.NoError(t, err)
	_, example, ok := strings.Cut(string(source), "// embed begins\n\n")
	require.True(t, ok)
	example, _, ok = strings.Cut(example, "\n\n// embed ends")
	require.True(t, ok)
	require.Equal(t, example, block)
}
