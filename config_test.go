package election_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

func validConfig() election.Config {
	return election.Config{ID: "a", Storage: storagetest.NewMemory(), LeaderCallback: stay}
}

func TestConfigDefaults(t *testing.T) {
	c := validConfig()
	require.NoError(t, c.AdjustAndValidate())
	require.Equal(t, 10*time.Second, c.LeaseDuration)
	require.Equal(t, 2*time.Second, c.RenewInterval)
	require.Equal(t, 8*time.Second, c.RenewDeadline)
	require.Equal(t, c.LeaseDuration, c.StopTimeout)
	again := c
	require.NoError(t, again.AdjustAndValidate())
	require.Equal(t, c.RenewDeadline, again.RenewDeadline)
}

// Every broken rule is an error that names the field and the rule.
func TestConfigRules(t *testing.T) {
	var nilStorage *election.SQLStorage
	for name, test := range map[string]struct {
		change func(*election.Config)
		says   []string
	}{
		"empty ID":           {func(c *election.Config) { c.ID = "" }, []string{"ID", "empty"}},
		"long ID":            {func(c *election.Config) { c.ID = strings.Repeat("x", 256) }, []string{"ID", "255"}},
		"ID not UTF-8":       {func(c *election.Config) { c.ID = "\xff" }, []string{"ID", "UTF-8"}},
		"NUL in ID":          {func(c *election.Config) { c.ID = "a\x00" }, []string{"ID", "NUL"}},
		"long address":       {func(c *election.Config) { c.Address = strings.Repeat("x", 1025) }, []string{"Address", "1024"}},
		"name not UTF-8":     {func(c *election.Config) { c.Name = "\xff" }, []string{"Name", "UTF-8"}},
		"empty label":        {func(c *election.Config) { c.Labels = map[string]string{"": "x"} }, []string{"Labels", "key"}},
		"too many labels":    {func(c *election.Config) { c.Labels = map[string]string{"k": strings.Repeat("x", 4096)} }, []string{"Labels", "4096"}},
		"nil storage":        {func(c *election.Config) { c.Storage = nil }, []string{"Storage", "nil"}},
		"typed nil storage":  {func(c *election.Config) { c.Storage = nilStorage }, []string{"Storage", "nil"}},
		"nil callback":       {func(c *election.Config) { c.LeaderCallback = nil }, []string{"LeaderCallback", "nil"}},
		"negative lease":     {func(c *election.Config) { c.LeaseDuration = -1 }, []string{"LeaseDuration", "negative"}},
		"negative interval":  {func(c *election.Config) { c.RenewInterval = -1 }, []string{"RenewInterval", "negative"}},
		"negative deadline":  {func(c *election.Config) { c.RenewDeadline = -1 }, []string{"RenewDeadline", "negative"}},
		"negative stop":      {func(c *election.Config) { c.StopTimeout = -1 }, []string{"StopTimeout", "negative"}},
		"lease over a day":   {func(c *election.Config) { c.LeaseDuration = 25 * time.Hour }, []string{"LeaseDuration", "24h"}},
		"lease too short":    {func(c *election.Config) { c.LeaseDuration = 9 * time.Second }, []string{"RenewDeadline (8s)", "LeaseDuration - RenewInterval"}},
		"interval too long":  {func(c *election.Config) { c.RenewInterval = 8 * time.Second }, []string{"RenewInterval (8s)", "RenewDeadline (8s)"}},
		"deadline too late":  {func(c *election.Config) { c.RenewDeadline = 9 * time.Second }, []string{"RenewDeadline (9s)", "LeaseDuration - RenewInterval"}},
		"deadline too early": {func(c *election.Config) { c.RenewDeadline = time.Second }, []string{"RenewInterval (2s)", "RenewDeadline (1s)"}},
		"no time to renew":   {func(c *election.Config) { c.RenewDeadline = 2*time.Second + 2 }, []string{"RenewInterval (2s)", "RenewDeadline", "3ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := validConfig()
			test.change(&c)
			_, err := election.NewElector(c)
			require.Error(t, err)
			for _, part := range test.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestConfigLabelsAreCopied(t *testing.T) {
	c := validConfig()
	c.Labels = map[string]string{"zone": "x"}
	e, err := election.NewElector(c)
	require.NoError(t, err)
	c.Labels["zone"] = "y"
	require.Equal(t, "a", e.Status().ID)
	require.Equal(t, election.StateIdle, e.Status().State)
	require.Empty(t, e.GetMembers())
	_, ok := e.GetLeader()
	require.False(t, ok)
	require.False(t, e.IsLeader())
	require.ErrorIs(t, e.TransferLeader(t.Context(), "b"), election.ErrNotLeader)
}

func TestObserverConfigRules(t *testing.T) {
	for field, c := range map[string]election.ObserverConfig{
		"PollInterval":  {PollInterval: -1},
		"LeaseDuration": {LeaseDuration: -1, Logger: slog.Default()},
	} {
		_, err := election.NewObserver(storagetest.NewMemory(), c)
		require.ErrorContains(t, err, field)
	}
	_, err := election.NewObserver(nil, election.ObserverConfig{})
	require.ErrorContains(t, err, "storage")
}
