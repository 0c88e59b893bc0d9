// Package unheard has no layer.
package unheard
