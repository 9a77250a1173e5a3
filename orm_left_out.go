//go:build no_gorm

package election

func ormRowsOf(Storage) (electionRows, bool) { return electionRows{}, false }
