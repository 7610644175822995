package main

import (
	"io"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/mirrorconfig"
)

// configMirrorCommand is `vmcastfs config mirror nginx|trafficserver ORIGIN...`.
func configMirrorCommand(e *env) *cobra.Command {
	o := mirrorconfig.Options{Build: version()}
	var size string
	cmd := &cobra.Command{
		Use:   "mirror [flags] nginx|trafficserver ORIGIN...",
		Short: "print the configuration of a cache that a rack of hosts shares",
		Long: `config mirror prints the whole configuration of a stock HTTP cache that stands
between the hosts of a rack and the servers of their packages, so that those
send each block once. Hosts mount with -o mirror=http://THE-CACHE:8080 then.
They check every block that comes from it, and ask the server when it fails.

For nginx it is one file, for /etc/nginx/conf.d. For Traffic Server it is a
script for sh that writes the files into /etc/trafficserver, or into the
directory that it is given. Both take what Debian ships.

ORIGIN is https://HOST or http://HOST:PORT of the packages' addresses. The cache
serves these alone, to the networks of --allow alone. With --parent it asks the
mirror of a site, which serves the same origins, instead of the origins.`,
		Example: `  vmcastfs config mirror nginx https://example.org \
    > /etc/nginx/conf.d/vmcast.conf
  vmcastfs config mirror --parent http://site-cache:8080 \
    trafficserver https://example.org | sh`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"nginx", "trafficserver"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) (err error) {
			write := map[string]func(mirrorconfig.Options) (string, error){"nginx": mirrorconfig.Nginx, "trafficserver": mirrorconfig.TrafficServer}[args[0]]
			if write == nil {
				return usagef("config mirror knows nginx and trafficserver, not %q", args[0])
			}
			o.Origins = args[1:]
			if o.Size, err = parseSize(size); err != nil {
				return usagef("--size: %w", err)
			}
			text, err := write(o)
			if err != nil {
				return usagef("%w", err)
			}
			_, err = io.WriteString(e.stdout, text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "8080", "`[ADDRESS:]PORT` to listen on")
	f.StringVar(&o.Dir, "dir", "", "`DIR` of the cache (default: /var/cache/nginx-vmcast or /var/cache/trafficserver)")
	f.StringVar(&size, "size", "200G", "`SIZE` of the disk that it may take")
	f.StringSliceVar(&o.Allow, "allow", nil, "`NETWORK` of the hosts, e.g. 10.1.0.0/16 (default: private networks)")
	f.StringVar(&o.Parent, "parent", "", "`URL` of a mirror that is asked instead of the origins")
	f.StringVar(&o.CACert, "cacert", "/etc/ssl/certs/ca-certificates.crt", "`FILE` of authorities that vouch for the origins")
	return cmd
}
