/* A stand-in for NVIDIA's management library (NVML): the calls that the publisher makes, with the
 * binary interface of nvml.h, answered from a text file beside the library, `<library>.txt`. The
 * file is read at each call, so that a test can change the host's GPUs while it runs.
 *
 *   devices 2                            how many GPUs there are
 *   driver 550.54.15                     the driver's version
 *   log 1                                write the name of each call to `<library>.calls`
 *   hang nvmlDeviceGetTemperature        this call hangs for as long as the line stands
 *   fail.nvmlInit_v2 18                  this call fails with this code
 *   0.fail.nvmlDeviceGetFanSpeed_v2 3    so does this one, for GPU 0 only
 *   0.lost 1                             all calls for GPU 0 say that it is lost
 *   0.xid 1 79                           serial number and code of an Xid; a higher number is a new one
 *   0.usage 37                           any value; one that is absent is "not supported"
 *   0.compute.0 4711 1048576             the first process: pid and bytes; `graphics` likewise
 *
 * In names and other texts `\xFF` stands for that byte. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long u64;
typedef struct device *device_t;
typedef struct { char bus_id_legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_t;
typedef struct { unsigned pid; u64 bytes; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { device_t device; u64 type, data; unsigned gpu_instance, compute_instance; } event_t;

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { XID = 8, DEVICES = 64 };

static int registered[DEVICES];
static int told_xid[DEVICES];

static void path_of(const char *ending, char path[4096]) {
    Dl_info library;
    dladdr((void *)registered, &library);
    snprintf(path, 4096, "%s%s", library.dli_fname, ending);
}

/* The rest of the line that begins with `key`; 0 when there is none. */
static int find(const char *key, char value[256]) {
    char path[4096], line[512];
    size_t length = strlen(key);
    int found = 0;
    path_of(".txt", path);
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            snprintf(value, 256, "%s", line + length + 1);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static int index_of(device_t device) { return (int)(size_t)device - 1; }

static int find_of(device_t device, const char *key, char value[256]) {
    char whole[128];
    snprintf(whole, sizeof whole, "%d.%s", index_of(device), key);
    return find(whole, value);
}

/* What stands before each call: the log, hanging and failing. */
static int enter(const char *call, device_t device) {
    char key[128], value[256], path[4096];
    if (find("log", value)) {
        path_of(".calls", path);
        FILE *file = fopen(path, "a");
        if (file) {
            fprintf(file, "%s %d\n", call, index_of(device));
            fclose(file);
        }
    }
    while (find("hang", value) && strcmp(value, call) == 0) {
        struct timespec moment = {0, 10000000};
        nanosleep(&moment, NULL);
    }
    if (device && find_of(device, "lost", value)) return LOST;
    snprintf(key, sizeof key, "fail.%s", call);
    if (find(key, value) || (device && find_of(device, key, value))) return atoi(value);
    return OK;
}

static int text(const char *value, char *out, unsigned length) {
    unsigned used = 0;
    for (; *value && used + 1 < length; value++) {
        unsigned byte;
        if (sscanf(value, "\\x%2x", &byte) == 1) {
            out[used++] = (char)byte;
            value += 3;
        } else {
            out[used++] = *value;
        }
    }
    out[used] = 0;
    return OK;
}

static int text_of(const char *call, device_t device, const char *key, char *out, unsigned length) {
    char value[256];
    int code = enter(call, device);
    if (code) return code;
    return find_of(device, key, value) ? text(value, out, length) : NOT_SUPPORTED;
}

static int number_of(const char *call, device_t device, const char *key, unsigned *out) {
    char value[256];
    int code = enter(call, device);
    if (code) return code;
    if (!find_of(device, key, value)) return NOT_SUPPORTED;
    *out = (unsigned)strtoull(value, NULL, 10);
    return OK;
}

static u64 wide(device_t device, const char *key) {
    char value[256];
    return find_of(device, key, value) ? strtoull(value, NULL, 10) : 0;
}

static int processes_of(const char *call, device_t device, const char *kind, unsigned *count, process_t *out) {
    char key[64], value[256];
    unsigned there = 0, room = *count;
    int code = enter(call, device);
    if (code) return code;
    snprintf(key, sizeof key, "%s.count", kind);
    if (find_of(device, key, value)) { /* a lie */
        *count = (unsigned)strtoull(value, NULL, 10);
        return TOO_SMALL;
    }
    for (;; there++) {
        process_t process = {0, 0, 0xFFFFFFFF, 0xFFFFFFFF};
        snprintf(key, sizeof key, "%s.%u", kind, there);
        if (!find_of(device, key, value)) break;
        sscanf(value, "%u %llu", &process.pid, &process.bytes);
        if (out && there < room) out[there] = process;
    }
    *count = there;
    return there > room ? TOO_SMALL : OK;
}

int nvmlInit_v2(void) { return enter("nvmlInit_v2", NULL); }

int nvmlShutdown(void) {
    memset(registered, 0, sizeof registered);
    return enter("nvmlShutdown", NULL);
}

int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    char value[256];
    int code = enter("nvmlSystemGetDriverVersion", NULL);
    if (code) return code;
    return find("driver", value) ? text(value, out, length) : NOT_SUPPORTED;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[256];
    int code = enter("nvmlDeviceGetCount_v2", NULL);
    if (code) return code;
    *count = find("devices", value) ? (unsigned)strtoull(value, NULL, 10) : 0;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
    if (index >= DEVICES) return INVALID;
    *device = (device_t)(size_t)(index + 1);
    return enter("nvmlDeviceGetHandleByIndex_v2", *device);
}

int nvmlDeviceGetName(device_t device, char *out, unsigned length) {
    return text_of("nvmlDeviceGetName", device, "name", out, length);
}

int nvmlDeviceGetUUID(device_t device, char *out, unsigned length) {
    char value[256];
    /* Known to the library, whatever the device says. */
    return find_of(device, "uuid", value) ? text(value, out, length) : NOT_SUPPORTED;
}

int nvmlDeviceGetPciInfo_v3(device_t device, pci_t *out) {
    char value[256];
    if (!find_of(device, "bus", value)) return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    return text(value, out->bus_id, sizeof out->bus_id);
}

int nvmlDeviceGetUtilizationRates(device_t device, utilization_t *out) {
    int code = number_of("nvmlDeviceGetUtilizationRates", device, "usage", &out->gpu);
    if (code == OK) out->memory = (unsigned)wide(device, "memory_busy");
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(device_t device, memory_t *out) {
    char value[256];
    int code = enter("nvmlDeviceGetMemoryInfo_v2", device);
    if (code) return code;
    if (out->version != (sizeof *out | 2 << 24)) return INVALID;
    if (!find_of(device, "memory_total", value)) return NOT_SUPPORTED;
    out->total = wide(device, "memory_total");
    out->used = wide(device, "memory_used");
    return OK;
}

int nvmlDeviceGetTemperature(device_t device, int sensor, unsigned *out) {
    return sensor == 0 ? number_of("nvmlDeviceGetTemperature", device, "temperature", out) : INVALID;
}

int nvmlDeviceGetPowerUsage(device_t device, unsigned *out) {
    return number_of("nvmlDeviceGetPowerUsage", device, "power", out);
}

int nvmlDeviceGetEnforcedPowerLimit(device_t device, unsigned *out) {
    return number_of("nvmlDeviceGetEnforcedPowerLimit", device, "power_limit", out);
}

int nvmlDeviceGetFanSpeed_v2(device_t device, unsigned fan, unsigned *out) {
    return fan == 0 ? number_of("nvmlDeviceGetFanSpeed_v2", device, "fan", out) : INVALID;
}

int nvmlDeviceGetClockInfo(device_t device, int clock, unsigned *out) {
    const char *key = clock == 1 ? "clock" : "memory_clock";
    return number_of("nvmlDeviceGetClockInfo", device, key, out);
}

int nvmlDeviceGetTotalEccErrors(device_t device, int uncorrected, int aggregate, u64 *out) {
    char value[256];
    const char *key = uncorrected ? "ecc_uncorrected" : "ecc_corrected";
    int code = enter("nvmlDeviceGetTotalEccErrors", device);
    if (code) return code;
    if (aggregate || !find_of(device, key, value)) return NOT_SUPPORTED;
    *out = wide(device, key);
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count, process_t *out) {
    return processes_of("nvmlDeviceGetComputeRunningProcesses_v3", device, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, unsigned *count, process_t *out) {
    return processes_of("nvmlDeviceGetGraphicsRunningProcesses_v3", device, "graphics", count, out);
}

int nvmlEventSetCreate(void **set) {
    *set = registered;
    return enter("nvmlEventSetCreate", NULL);
}

int nvmlDeviceGetSupportedEventTypes(device_t device, u64 *types) {
    *types = XID;
    return enter("nvmlDeviceGetSupportedEventTypes", device);
}

int nvmlDeviceRegisterEvents(device_t device, u64 types, void *set) {
    int code = enter("nvmlDeviceRegisterEvents", device);
    if (code == OK && set == registered && types == XID) registered[index_of(device)] = 1;
    return code;
}

int nvmlEventSetWait_v2(void *set, event_t *event, unsigned timeout_ms) {
    char value[256];
    int code = enter("nvmlEventSetWait_v2", NULL);
    if (code || set != registered || timeout_ms) return code ? code : INVALID;
    for (int index = 0; index < DEVICES; index++) {
        device_t device = (device_t)(size_t)(index + 1);
        int serial, xid;
        if (!registered[index] || !find_of(device, "xid", value)) continue;
        if (sscanf(value, "%d %d", &serial, &xid) != 2 || serial <= told_xid[index]) continue;
        told_xid[index] = serial;
        *event = (event_t){device, XID, (u64)xid, 0xFFFFFFFF, 0xFFFFFFFF};
        return OK;
    }
    return TIMEOUT;
}

int nvmlEventSetFree(void *set) {
    (void)set;
    return enter("nvmlEventSetFree", NULL);
}
