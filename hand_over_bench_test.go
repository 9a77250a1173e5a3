package election_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkHandOver resigns again and again at default settings, and reports how
// long it takes from the return of one callback to the start of the next one, on
// another handle: of this process, or of another one.
func BenchmarkHandOver(b *testing.B) {
	for _, db := range append([]*dbtest.Database{dbtest.SQLite(b)}, dbtest.Servers(b)...) {
		b.Run(db.Name+"/one process", func(b *testing.B) { handOvers(b, db.Fresh(b), startHere) })
		b.Run(db.Name+"/three processes", func(b *testing.B) { handOvers(b, db.Fresh(b), startProcess) })
	}
}

// stageCall is what a member says of itself.
type stageCall struct {
	member string
	what   string // "watching", "started", "returned"
	at     time.Time
}

// handOvers lets three members hand over.
func handOvers(b *testing.B, db *dbtest.Database, start func(b *testing.B, db *dbtest.Database, id string, say func(stageCall)) (resign func())) {
	calls := make(chan stageCall, 100)
	resign := map[string]func(){}
	for i := range 3 {
		id := fmt.Sprint("member ", i)
		resign[id] = start(b, db, id, func(c stageCall) { calls <- c })
	}
	leader := ""
	for watching := 0; watching < len(resign) || leader == ""; {
		switch c := <-calls; c.what {
		case "watching":
			watching++
		case "started":
			leader = c.member
		}
	}
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	var took []time.Duration
	for b.Loop() {
		resign[leader]()
		returned, started := <-calls, <-calls
		if returned.what == "started" { // said by processes, each in its own time
			returned, started = started, returned
		}
		require.Equal(b, []string{"returned", leader, "started"}, []string{returned.what, returned.member, started.what})
		took = append(took, started.at.Sub(returned.at))
		leader = started.member
		<-pause.C
		<-pause.C // the resignation's pause is over
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
	b.ReportMetric(0, "ns/op")
}

// handOverPause is for how long who has resigned does not lead.
const handOverPause = 50 * time.Millisecond

// runHandOverMember runs a member until ctx ends, and resigns when it receives.
func runHandOverMember(ctx context.Context, storage election.Storage, id string, resign <-chan struct{}, say func(stageCall)) error {
	e, err := election.NewElector(election.Config{ID: id, Storage: storage, LeaderCallback: func(ctx context.Context) error {
		say(stageCall{id, "started", time.Now()})
		<-ctx.Done()
		say(stageCall{id, "returned", time.Now()})
		return nil
	}})
	if err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !e.Status().Watching && ctx.Err() == nil {
			<-tick.C
		}
		say(stageCall{id, "watching", time.Now()})
		for range resign {
			_ = e.ResignLeader(ctx, handOverPause)
		}
	}()
	return e.RunElection(ctx)
}

// startHere runs a member in this process.
func startHere(b *testing.B, db *dbtest.Database, id string, say func(stageCall)) (resign func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	asked, ended := make(chan struct{}), make(chan struct{})
	storage := openSQL(b, db.Open(b))
	go func() {
		defer close(ended)
		_ = runHandOverMember(ctx, storage, id, asked, say)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
		close(asked)
	})
	return func() { asked <- struct{}{} }
}

const (
	handOverDriver = "ELECTION_TEST_HAND_OVER_DRIVER"
	handOverDSN    = "ELECTION_TEST_HAND_OVER_DSN"
	handOverID     = "ELECTION_TEST_HAND_OVER_ID"
)

// startProcess runs a member in a process of its own.
func startProcess(b *testing.B, db *dbtest.Database, id string, say func(stageCall)) (resign func()) {
	process := exec.Command(os.Args[0], "-test.run=^TestHandOverProcess$")
	process.Env = append(os.Environ(), handOverDriver+"="+db.Driver, handOverDSN+"="+db.DSN, handOverID+"="+id)
	input, err := process.StdinPipe()
	require.NoError(b, err)
	output, err := process.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, process.Start())
	go func() {
		for lines := bufio.NewScanner(output); lines.Scan(); {
			what, at, _ := strings.Cut(lines.Text(), " ")
			var ns int64
			if _, err := fmt.Sscan(at, &ns); err == nil {
				say(stageCall{id, what, time.Unix(0, ns)})
			}
		}
	}()
	b.Cleanup(func() {
		_ = input.Close() // it ends
		_ = process.Wait()
	})
	return func() { _, _ = fmt.Fprintln(input, "resign") }
}

// TestHandOverProcess is not a test of its own: it is the process that the benchmark
// starts. Each line that it reads makes it resign; it ends with its input.
func TestHandOverProcess(t *testing.T) {
	if os.Getenv(handOverDSN) == "" {
		t.Skip("run by a benchmark as a process of its own")
	}
	db, err := sql.Open(os.Getenv(handOverDriver), os.Getenv(handOverDSN))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	resign := make(chan struct{})
	go func() {
		defer cancel()
		for input := bufio.NewReader(os.Stdin); ; resign <- struct{}{} {
			if _, err := input.ReadString('\n'); err == io.EOF {
				return
			}
		}
	}()
	_ = runHandOverMember(ctx, openSQL(t, db), os.Getenv(handOverID), resign, func(c stageCall) { fmt.Println(c.what, c.at.UnixNano()) })
}
