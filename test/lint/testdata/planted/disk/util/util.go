// Not the usual words.
package util
