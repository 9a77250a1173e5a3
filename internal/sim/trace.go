package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// step is one thing that happened.
type step struct {
	at    time.Duration // since the world began
	who   string
	what  string
	n, of uint64 // mostly a term and a version
}

func (s step) String() string {
	return fmt.Sprintf("%14.6fs  %-8s %-22s %d %d", s.at.Seconds(), s.who, s.what, s.n, s.of)
}

// trace keeps the last steps of a world, and a hash of all of them. By the hash two runs of one
// seed are compared: if they differ, something depends on the scheduler.
type trace struct {
	mu    sync.Mutex
	born  time.Time
	last  [traceTail]step
	steps int
	sum   uint64
}

// traceTail is how many steps are shown of a world that broke a promise.
const traceTail = 80

// newTrace returns an empty trace. The sum begins with the offset of FNV-1a.
func newTrace() *trace { return &trace{born: time.Now(), sum: 14695981039346656037} }

func (t *trace) add(who, what string, n, of uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := step{time.Since(t.born), who, what, n, of}
	t.last[t.steps%traceTail] = s
	t.steps++
	for _, x := range [...]uint64{uint64(s.at), n, of} {
		t.mix(x)
	}
	for _, text := range [...]string{who, what} {
		for i := range len(text) {
			t.mix(uint64(text[i]))
		}
	}
}

// mix is a step of FNV-1a, on words.
func (t *trace) mix(x uint64) { t.sum = (t.sum ^ x) * 1099511628211 }

// hash identifies everything that happened, and when.
func (t *trace) hash() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

// tail is what happened last, a line each.
func (t *trace) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for i := max(0, t.steps-traceTail); i < t.steps; i++ {
		fmt.Fprintln(&b, t.last[i%traceTail])
	}
	return b.String()
}
