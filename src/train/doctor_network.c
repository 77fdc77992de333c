/* Network interfaces: between hosts, MPI and NCCL try what they find, and some of it leads nowhere. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "train/doctor_impl.h"

bool doctor_is_bridge(const char *interface)
{
    static const char *const prefixes[] = {"docker", "virbr", "br-",    "lxcbr", "lxdbr",
                                           "veth",   "cni",   "podman", "vmnet"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(interface, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

static bool address_of(const struct ifaddrs *a, char *text, socklen_t bytes)
{
    if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET) return false;
    const struct sockaddr_in *in = (const void *)a->ifa_addr;
    return inet_ntop(AF_INET, &in->sin_addr, text, bytes) != NULL;
}

void doctor_network(struct doctor_report *r)
{
    struct ifaddrs *all = NULL;
    char good[IFNAMSIZ] = "", bridge[IFNAMSIZ] = "", address[INET_ADDRSTRLEN];
    if (getifaddrs(&all) != 0) {
        doctor_line(r, "network", "cannot be listed");
        return;
    }
    bool loopback = false;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (!address_of(a, address, sizeof address)) continue;
        const bool up = (a->ifa_flags & IFF_UP) && (a->ifa_flags & IFF_RUNNING);
        const bool leads_nowhere = doctor_is_bridge(a->ifa_name);
        doctor_line(r, "network", "%s %s %s%s", a->ifa_name, address, up ? "up" : "down",
                    leads_nowhere ? ", a bridge of containers or virtual machines" : "");
        if (a->ifa_flags & IFF_LOOPBACK)
            loopback = loopback || up;
        else if (up)
            snprintf(leads_nowhere ? bridge : good, IFNAMSIZ, "%s", a->ifa_name);
    }
    freeifaddrs(all);
    if (!loopback)
        doctor_advice(
            r, "the loopback interface is down, which mpirun needs: ip link set lo up");
    if (bridge[0])
        doctor_advice(
            r,
            "%s leads to no other host, but between hosts MPI may try it and hang: "
            "mpirun --mca btl_tcp_if_include %s -x NCCL_SOCKET_IFNAME=%s",
            bridge, good[0] ? good : "NAME", good[0] ? good : "NAME");
}
