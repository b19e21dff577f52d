/* scope.h - the stack of module names that are being run: where in the model we are.
 *
 * A module's call enters its name and class; errors and traced nodes take the joined path from here. One
 * stack per thread.
 */
#ifndef PR_BASE_SCOPE_H
#define PR_BASE_SCOPE_H

/* Enter a module. `name` is the last part of its path ("conv1"; "" for the root), `type` its class
 * ("Conv2d"). Both are copied; over-long paths are cut. Returns the depth to give to pr_scope_leave. */
int pr_scope_enter(const char *name, const char *type);

/* Go back to `depth` (also when an error has skipped some leaves). */
void pr_scope_leave(int depth);

/* The joined path ("layer1.0.conv1") and the innermost class ("Conv2d"); "" at top level. Valid until the
 * next enter or leave. */
const char *pr_scope_path(void);
const char *pr_scope_type(void);

#endif
