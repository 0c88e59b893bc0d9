package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// notifySignals returns a context that ends at the first SIGINT or SIGTERM; the second one ends the process at
// once. The returned function restores the default handling and waits for the goroutine that listens.
func notifySignals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	stopped, done := make(chan struct{}), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(done)
		for count := 0; ; count++ {
			select {
			case <-signals:
				if count > 0 {
					os.Exit(exitInterrupted)
				}
				cancel()
			case <-stopped:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		<-done
		cancel()
	}
}

// outlive returns a context that ends a while after its parent, for work that puts things in order after a signal.
func outlive(parent context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(while, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}
