package main

import "testing"

func TestHTTPAddress(t *testing.T) {
	t.Parallel()
	for v, ok := range map[string]bool{
		"unix:/run/vmcastfs/m": true, "127.0.0.1:9100": true, "[::1]:9100": true, "127.9.9.9:1": true,
		"unix:m": false, "": false, ":9100": false, "0.0.0.0:9100": false, "[::]:9100": false, "192.0.2.1:9100": false,
		"localhost:9100": false, "127.0.0.1": false, "127.0.0.1:0": false, "127.0.0.1:99999": false, "127.0.0.1:http": false,
	} {
		if _, _, err := httpAddress(v); (err == nil) != ok {
			t.Errorf("http=%s: %v", v, err)
		}
	}
}
