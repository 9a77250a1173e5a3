// Checks that need more than the library does, or work on the repository as a
// whole. The library's own tests stand beside its code.
module github.com/sqlelect/election/test

go 1.26.0

replace github.com/sqlelect/election => ../
