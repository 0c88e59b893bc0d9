package logserver

const childDirectory = "WW_LOGSERVER_TEST_DIR"

func childMain() int { return 0 }
