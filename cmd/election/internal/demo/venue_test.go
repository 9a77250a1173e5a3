package demo

import (
	"strings"
	"testing"

	"github.com/sqlelect/election/internal/dialect"
)

func TestGuestsHaveNamesOfTheirOwn(t *testing.T) {
	one, other := guestIn("mysql://h/db"), guestIn("mysql://h/db")
	if one.Prefix == other.Prefix || !strings.HasPrefix(one.Prefix, "election_demo_") || own(one) || !own(ownFile("d")) {
		t.Errorf("got the prefixes %q and %q", one.Prefix, other.Prefix)
	}
	for _, d := range []*dialect.Dialect{dialect.SQLite(), dialect.MariaDB(), dialect.PostgreSQL()} {
		// No table's name is longer than this one's.
		if err := d.CheckIdentifier(one.Prefix + "election"); err != nil {
			t.Errorf("table name: %v", err)
		}
	}
}
