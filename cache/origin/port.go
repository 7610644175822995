package origin

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// KeepPort takes a free port of an IPv4 address of this machine, until kept is closed. Nothing
// listens there, and the kernel gives the port to no other program. A server that is told of it
// can listen there all the same, again and again: it needs SO_REUSEADDR, which servers set.
func KeepPort(ip string) (address string, kept *os.File, err error) {
	host, err := netip.ParseAddr(ip)
	if err != nil || !host.Is4() {
		return "", nil, fmt.Errorf("keep a port of %q: no IPv4 address", ip)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("keep a port: %w", err)
	}
	kept = os.NewFile(uintptr(fd), "port")
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: host.As4()})
	}
	if err == nil {
		var at unix.Sockaddr
		if at, err = unix.Getsockname(fd); err == nil {
			return netip.AddrPortFrom(host, uint16(at.(*unix.SockaddrInet4).Port)).String(), kept, nil
		}
	}
	kept.Close()
	return "", nil, fmt.Errorf("keep a port: %w", err)
}
