package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A witness reads a node's binary log, which holds all commits in the cluster's one
// order. Who wrote them, where, and what they were told does not count.
type witness struct {
	schema  string
	table   string // that the rows of an event belong to
	columns map[int]string
	setting bool // what follows is the row as it is left

	leads      reign
	terms      []uint64        // of changes of leader, in order
	entries    map[string]bool // committed
	violations []string        // entries outside of their term
}

// testify reads the log of a node.
func (w *world) testify(node int) *witness {
	w.t.Helper()
	// Other nodes' commits may be seen in tables before they are in the log, but not
	// after a later one that this node was asked for.
	w.entries(node)
	w.exec(node, "INSERT INTO mark VALUES (NULL)")
	files, err := w.cluster.Nodes[node].BinaryLogs()
	require.NoError(w.t, err)
	require.NotEmpty(w.t, files)
	cmd := exec.Command("mariadb-binlog", append([]string{
		"--no-defaults", "--base64-output=decode-rows", "--verbose", "--database=" + w.schema,
	}, files...)...)
	out, err := cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, cmd.Start())
	seen := &witness{schema: w.schema, entries: map[string]bool{}, columns: map[int]string{}}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		seen.read(lines.Text())
	}
	require.NoError(w.t, lines.Err())
	require.NoError(w.t, cmd.Wait())
	seen.end()
	return seen
}

// read takes one line. Rows look like this:
//
//	### UPDATE `schema`.`election`
//	### WHERE
//	###   @1=2
//	### SET
//	###   @1=2
//	###   @2='b'
func (s *witness) read(line string) {
	text, row := strings.CutPrefix(line, "### ")
	switch {
	case !row:
		s.end()
	case text == "WHERE":
	case text == "SET":
		s.setting = true
	case strings.HasPrefix(text, "  @"):
		var n int
		place, value, _ := strings.Cut(text[3:], "=")
		if _, err := fmt.Sscan(place, &n); err == nil && s.setting {
			s.columns[n] = strings.Trim(value, "'")
		}
	default: // INSERT INTO `schema`.`table`, UPDATE `schema`.`table`, DELETE FROM …
		s.end()
		s.table = ""
		if what, table, ok := strings.Cut(text, "`"+s.schema+"`."); ok && !strings.HasPrefix(what, "DELETE") {
			s.table = strings.Trim(table, "`")
		}
	}
}

// end judges the row that was read.
func (s *witness) end() {
	if s.setting && len(s.columns) > 0 {
		switch {
		case s.table == "election" && s.columns[1] == "2": // the leader row
			r := reign{leader: s.columns[2]}
			_, _ = fmt.Sscan(s.columns[4], &r.term)
			if r != s.leads {
				s.terms = append(s.terms, r.term)
			}
			s.leads = r
		case s.table == "ledger":
			r := reign{leader: s.columns[2]}
			_, _ = fmt.Sscan(s.columns[3], &r.term)
			s.entries[s.columns[1]] = true
			if r != s.leads {
				s.violations = append(s.violations, fmt.Sprintf("entry %s of %v while %v led", s.columns[1], r, s.leads))
			}
		}
	}
	s.setting = false
	clear(s.columns)
}

// The witness can tell: entries that were never guarded are found.
func TestWitness(t *testing.T) {
	w := newWorld(t)
	w.mustChange(0, "a")
	w.exec(1, "INSERT INTO ledger VALUES (1, 'a', 1), (2, 'b', 1), (3, 'a', 2)")
	w.mustChange(1, "b")
	w.exec(0, "INSERT INTO ledger VALUES (4, 'a', 1), (5, 'b', 2)")
	seen := w.testify(2)
	require.Equal(t, []uint64{1, 2}, seen.terms)
	require.Len(t, seen.entries, 5)
	require.Equal(t, []string{
		"entry 2 of {b 1} while {a 1} led", "entry 3 of {a 2} while {a 1} led", "entry 4 of {a 1} while {b 2} led",
	}, seen.violations)
}
