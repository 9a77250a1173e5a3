// Package otherdriver tests a program that links another SQLite driver under the library's name.
package otherdriver
