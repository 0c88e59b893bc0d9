package client

// beaten is what the last beat of a FileWriter saw: the session is idle if the
// next beat sees the same.
type beaten struct {
	session *session
	sent    uint64
}

// beat sends an empty packet if the writer's session was idle since the last
// beat, so that the datanodes do not take it for dead. A session that is broken
// is left for the next Write, which recovers it: until then nothing is lost that
// a recovery now would save.
func (w *FileWriter) beat() {
	if !w.mu.TryLock() {
		return // it is in use
	}
	defer w.mu.Unlock()
	if w.closed || w.failed() != nil || w.current == nil || w.current.session == nil {
		w.beaten = beaten{}
		return
	}
	s := w.current.session
	sent, quiet := s.quiet()
	if now := (beaten{s, sent}); now != w.beaten || !quiet {
		w.beaten = now
		return
	}
	p := w.client.newPacket(w.current.length, 0)
	taken, _ := s.send(w.life, p) // an error stays in the session, where the next Write finds it
	if !taken {
		p.release()
	}
	w.beaten = beaten{s, sent + 1}
}

// quiet tells how many packets were sent, and whether all are acknowledged and
// the session stands.
func (s *session) quiet() (sent uint64, quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sent, s.mu.opened && s.mu.err == nil && len(s.mu.inflight) == 0
}
