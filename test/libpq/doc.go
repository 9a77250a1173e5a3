// Package libpq tests the library on PostgreSQL through a driver that it does not know:
// github.com/lib/pq.
package libpq
