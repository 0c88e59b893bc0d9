// Command ww is a program.
package main
