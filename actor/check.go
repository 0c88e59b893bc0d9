package actor

// CheckPath refuses a path that no request may name, before it costs a step:
// one that is not absolute, clean and within the limits. Errors: fault.Invalid.
func CheckPath(op, path string) error {
	if err := checkPath(op, path); err != nil {
		return err
	}
	return nil
}
