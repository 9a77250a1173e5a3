package arena

import "testing"

func TestCuesAreReadBack(t *testing.T) {
	for _, c := range []Cue{
		{Resign, 7, "500ms"}, {Transfer, 18446744073709551615, "b"}, {"hold", 3, ""}, {Verb: "open"},
	} {
		if got, err := ParseCue(c.String()); err != nil || got != c {
			t.Errorf("%q was read as %+v, error %v", c, got, err)
		}
	}
}

func TestMalformedCues(t *testing.T) {
	for _, text := range []string{"", "resign", "resign x 1s", "resign -1 1s", "resign 1 1s more"} {
		if c, err := ParseCue(text); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
}
