/*
 * Lets `xl -N create`, which parses a configuration and creates nothing, run
 * where there is no Xen: the calls with which it opens the hypervisor and asks
 * for the host's capabilities succeed and tell nothing. All parsing is xl's own.
 */
#include <stdlib.h>

void *xc_interface_open(void) { return calloc(1, 65536); }
int xc_interface_close(void *xch) { return 0; }
void *xs_open(void) { return calloc(1, 65536); }
void xs_close(void *xsh) {}
int xc_version(void *xch, int cmd, void *arg) { return 0; }
int xc_get_max_cpus(void *xch) { return 4; }
int libxl_get_physinfo(void *ctx, void *info) { return 0; }
