// Package helper is no leaf.
package helper
