package arena

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSettingsAreReadBack(t *testing.T) {
	for _, dsn := range []string{"sqlite:a b\n\"ä\"\xff.db", "mysql://u:a%40b@h/db"} {
		s := Settings{Dir: "/d", Process: Process{"a", 2}, Venue: Venue{"pgx", dsn, "p_"}, ORM: true}
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "\n") {
			t.Errorf("got line %q, error %v", text, err)
		}
		var got Settings
		if err := json.Unmarshal(text, &got); err != nil || got != s {
			t.Errorf("%q was read as %+v, error %v", text, got, err)
		}
	}
}

func TestSettingsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "hold 3", "{}", `{"Venue":""}`, `{"Venue":"\"\" \"\" \"\""}`} {
		if err := RunMember(t.Context(), strings.NewReader(text), Part{}); err == nil {
			t.Errorf("a member was told %q", text)
		}
	}
}

func TestVenueHidesItsSecrets(t *testing.T) {
	for _, v := range []Venue{
		{DSN: "oracle://u:geheim@h/db"}, {DSN: "postgres://u:geheim@127.0.0.1:1/db?sslmode=disable"},
		{DSN: "mysql://u:geheim@127.0.0.1:1/db"}, {DSN: "mysql://u:geheim@h/db?parseTime=perhaps"},
		{Driver: "mysql", DSN: "u:geheim@tcp(127.0.0.1:1)/db"},
	} {
		_, err := Open(t.Context(), v)
		if err == nil || strings.Contains(err.Error()+v.String(), "geheim") || !strings.Contains(err.Error(), "***") {
			t.Errorf("%s: error %v", v, err)
		}
	}
}
