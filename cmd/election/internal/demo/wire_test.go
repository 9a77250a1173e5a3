package demo

import "testing"

func TestCuesAreReadBack(t *testing.T) {
	for _, c := range []cue{
		{cueResign, 7, "500ms"}, {cueTransfer, 18446744073709551615, "b"}, {cueHold, 3, ""}, {verb: cueOpen},
	} {
		if got, err := parseCue(c.String()); err != nil || got != c {
			t.Errorf("%q was read as %+v, error %v", c, got, err)
		}
	}
}

func TestMalformedCues(t *testing.T) {
	for _, text := range []string{"", "resign", "resign x 1s", "resign -1 1s", "resign 1 1s more"} {
		if c, err := parseCue(text); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
}
