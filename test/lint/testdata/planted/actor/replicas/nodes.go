// Package replicas has a room whose fields another file selects.
package replicas

type Nodes struct{ list []int }

func (t *Nodes) Next() int { return len(t.list) }
