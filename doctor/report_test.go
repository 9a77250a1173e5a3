package doctor_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
)

var sample = doctor.Report{
	Engine: "PostgreSQL", Version: "15.18", Table: "election", Scratch: "table election_doctor_1, dropped in the end",
	Checks: []doctor.Check{
		{Name: "engine", Verdict: doctor.OK, Tried: "asked the server what it is", Seen: "PostgreSQL 15.18", Took: time.Millisecond},
		{Name: "file system", Verdict: doctor.Skipped, Tried: "asked where the file is", Seen: "it is no file"},
		{Name: "standbys", Verdict: doctor.Warning, Tried: "asked for it", Seen: "1 attached,\n0 of them synchronous",
			Means: strings.Repeat("Commits are acknowledged before a standby has them. ", 4), Do: "Wait for one."},
		{Name: "flush at commit", Verdict: doctor.Failure, Tried: "asked for it", Seen: "synchronous_commit = off" + strings.Repeat(" and so on", 10),
			Means: "A crash can undo commits.", Do: "Set synchronous_commit = on."},
	},
}

func TestReportIsReadable(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "report.txt")
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), sample.String())
}

func TestVerdictIsTheWorst(t *testing.T) {
	t.Parallel()
	for n, want := range []doctor.Verdict{doctor.OK, doctor.OK, doctor.OK, doctor.Warning, doctor.Failure} {
		report := doctor.Report{Checks: sample.Checks[:n]}
		require.Equal(t, want, report.Verdict(), "the first %d", n)
		require.Equal(t, want == doctor.Failure, report.Err(doctor.Warning) != nil)
		require.Equal(t, want >= doctor.Warning, report.Err(doctor.OK) != nil)
		require.Equal(t, want >= doctor.Warning, report.Err(doctor.Skipped) != nil)
		require.NoError(t, report.Err(doctor.Failure))
	}
	err := sample.Err(doctor.OK)
	require.ErrorContains(t, err, "warning: standbys: 1 attached")
	require.ErrorContains(t, err, "failure: flush at commit: synchronous_commit = off")
	require.Equal(t, "verdict 9", doctor.Verdict(9).String())
	_, found := sample.Find("no such check")
	require.False(t, found)
}

func TestReportAsJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(sample)
	require.NoError(t, err)
	var got struct {
		Engine string
		Checks []map[string]any
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, "PostgreSQL", got.Engine)
	require.Equal(t, map[string]any{"name": "engine", "verdict": "ok", "tried": "asked the server what it is",
		"seen": "PostgreSQL 15.18", "took_ns": 1e6}, got.Checks[0])
	require.Equal(t, "failure", got.Checks[3]["verdict"])
	require.Equal(t, "Set synchronous_commit = on.", got.Checks[3]["do"])
}
