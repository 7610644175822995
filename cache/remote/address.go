package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// A class says where on the network an address is.
type class int

const (
	public class = iota
	private
	linkLocal
	loopback
	anywhere // no class of an address: a party that may go to all of them
)

func (c class) String() string {
	return [...]string{"public", "private", "link-local", "loopback", "any"}[c]
}

// mayReach is the address policy. What a party of class c names may be public, or of its own
// class. For a party at a loopback or link-local address private ones are no secret either.
func (c class) mayReach(to class) bool {
	return to == public || to == c || c == anywhere || to == private && c != public
}

// special are ranges that the methods of netip.Addr do not know as anything but global
// unicast (IANA special-purpose address registries, RFC 6890).
var special = func() (list []netip.Prefix) {
	for _, s := range []string{
		"100.64.0.0/10",                              // carrier-grade NAT
		"0.0.0.0/8", "192.0.0.0/24", "198.18.0.0/15", // this network, protocol assignments, benchmarks
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
		"240.0.0.0/4", // reserved, and broadcast
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052: the last four bytes are IPv4
	siit  = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915, as nat64
	sixTo = netip.MustParsePrefix("2002::/16")       // RFC 3056: bytes 2 to 5 are IPv4
)

// isISATAP reports whether an address ends in an interface of RFC 5214: the last four bytes
// are IPv4.
func isISATAP(raw [16]byte) bool {
	return raw[8]&^3 == 0 && raw[9] == 0 && raw[10] == 0x5e && raw[11] == 0xfe
}

func classOf(ip netip.Addr) class {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		raw := ip.As16()
		switch {
		case nat64.Contains(ip), siit.Contains(ip):
			ip = netip.AddrFrom4([4]byte(raw[12:16]))
		case sixTo.Contains(ip):
			ip = netip.AddrFrom4([4]byte(raw[2:6]))
		}
	}
	switch {
	case ip.IsLoopback(), ip.IsUnspecified():
		return loopback
	case ip.IsLinkLocalUnicast():
		return linkLocal
	case ip.IsPrivate(), !ip.IsGlobalUnicast():
		return private
	}
	for _, p := range special {
		if p.Contains(ip) {
			return private
		}
	}
	if raw := ip.As16(); ip.Is6() && isISATAP(raw) {
		return classOf(netip.AddrFrom4([4]byte(raw[12:16])))
	}
	return public
}

// allowAddress lets only addresses pass which from may reach. It is asked about the address
// that is being connected to, after all name resolution.
func allowAddress(from class, address string) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to an unreadable address: %w", ErrRefused)
	}
	return allow(from, addr.Addr())
}

func allow(from class, ip netip.Addr) error {
	if to := classOf(ip); !from.mayReach(to) {
		return fmt.Errorf("%s is a %s address, named by a feed at a %s one: %w", ip, to, from, ErrRefused)
	}
	return nil
}

// sawAddress records that an origin has been reached at addr. The most public address
// counts, so that a name which moves inwards gains nothing.
func (c *Client) sawAddress(origin string, addr net.Addr) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return
	}
	c.recordClass(origin, classOf(tcp.AddrPort().Addr()))
}

func (c *Client) recordClass(origin string, seen class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.classes[origin]; !ok || seen < old {
		if len(c.classes) < maxOrigins {
			c.classes[origin] = seen
		}
	}
}

// classAt returns where an origin was reached, if it was.
func (c *Client) classAt(origin string) (seen class, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, ok = c.classes[origin]
	return seen, ok
}

// FeedFrom says where the document came from that the feed at url has now: the From of a
// [Document], perhaps of an earlier process. Otherwise the owner of the feed's name could
// have a public feed taken for one of this machine, by pointing the name here afterwards.
func (c *Client) FeedFrom(url, from string) {
	u, _, err := parseURL(url)
	if err != nil {
		return // a local file
	}
	origin := originOf(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.feeds, origin)
	for at := public; at <= loopback && len(c.feeds) < maxOrigins; at++ {
		if at.String() == from {
			c.feeds[origin] = at
		}
	}
}

// classOfBase returns where the feed is that named a URL. It is the more public of where its
// document came from and where it was reached. If neither is known, it is where the name of
// the feed points to now, or else public.
func (c *Client) classOfBase(ctx context.Context, base *url.URL) class {
	if c.options.AllowPrivate {
		return anywhere
	}
	if base == nil {
		return loopback // a local file
	}
	if ip, err := netip.ParseAddr(base.Hostname()); err == nil {
		return classOf(ip)
	}
	origin := originOf(base)
	c.mu.Lock()
	known, ok := c.classes[origin]
	if from, told := c.feeds[origin]; told && (!ok || from < known) {
		known, ok = from, true
	}
	c.mu.Unlock()
	if ok {
		return known
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", base.Hostname())
	if err != nil || len(ips) == 0 {
		return public
	}
	most := loopback
	for _, ip := range ips {
		most = min(most, classOf(ip))
	}
	c.recordClass(origin, most)
	return most
}
