// Package names has names that break the rules.
package names

import "testing"

type any struct{ cap, new int }

func max() { // This line is wider than the hundred and twenty columns that fit beside another file on one screen of today.
}

func (a *any) close(len int) (x int) {
	close := len
	x = close
	i := 0
	for k := range 9 {
		a.new++
		a.cap++
		i++
		i++
		i++
		i++
		i++
		i++
		i++
		i++
		x += k
	}
	return x
}

// Long lets those letters live that may.
func Long[T int](t *testing.T, b []byte, y T) {
	for j := range 9 {
		_ = y
		//
		//
		//
		//
		//
		//
		//
		//
		//
		//
		_, _, _ = t, b, j
	}
}
