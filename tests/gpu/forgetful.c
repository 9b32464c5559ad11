/* A CUDA driver that leaves one thing undone, for tests of races: they must fail with it.
 *
 * The library has one function of the driver, which says that it succeeded, and is linked to a driver. Who opens it finds
 * every other function there, because a loader looks in a library's dependencies too. So the code under test needs no switch
 * that turns its waits off. */

#if defined(DROP_cuStreamWaitEvent)
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    (void)stream, (void)event, (void)flags;
    return 0;
}
#elif defined(DROP_cuEventQuery)
int cuEventQuery(void *event) {
    (void)event;
    return 0;
}
#elif defined(DROP_cuEventSynchronize)
int cuEventSynchronize(void *event) {
    (void)event;
    return 0;
}
#else
#error "which function?"
#endif
