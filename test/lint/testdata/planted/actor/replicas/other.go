package replicas

func first(t *Nodes) int { return t.list[0] }
