package store

func child(cmd string) int { return 2 }
