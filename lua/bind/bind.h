/* bind.h - what the files of the Lua binding share: tensors on the Lua stack, failures as Lua errors,
 * options.
 *
 * Each file of this folder binds one type or room and exports a luaL_Reg array that core.c merges into the
 * module "prune.core". Lua code speaks 1-based: functions here convert, and core.c sets pr_index_base so that
 * messages of the core do as well.
 *
 * A Lua error jumps. So a function first reads its arguments (may raise), then works with the core (must not
 * raise while it owns anything), then pushes results or raises with bind_check.
 */
#ifndef PRUNELUA_BIND_H
#define PRUNELUA_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "prune.h"

#define BIND_TENSOR "prune.Tensor"

/* --- failures ------------------------------------------------------------------------------------------------------- */

/* Raise this thread's pr_error: "script.lua:12: layer1.conv: conv2d: ...". The line is the innermost one
 * outside prunelua's own Lua modules. */
int bind_raise(lua_State *L);
/* Raise unless status is PR_OK. */
void bind_check(lua_State *L, pr_status status);
/* Raise a message of the binding itself, with the line as above. */
int bind_error(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `what` ("argument 2 of 'cat'") is not `expected`; says what the value at `index` is instead. */
int bind_type_error(lua_State *L, int index, const char *what, const char *expected);

/* --- tensors -------------------------------------------------------------------------------------------------------- */

/* The tensor at `index`, borrowed. check raises for other values and released tensors; test gives NULL for
 * other values. */
pr_tensor *bind_check_tensor(lua_State *L, int index);
pr_tensor *bind_test_tensor(lua_State *L, int index);
/* The same, nil or none gives NULL. */
pr_tensor *bind_opt_tensor(lua_State *L, int index);

/* Push a tensor and take over the caller's reference; NULL raises the thread's error. One tensor has one
 * userdata: pushing it again gives the same value, equal under == and as a table key. */
void bind_push(lua_State *L, pr_tensor *t);
/* Push a tensor that someone else goes on holding; NULL pushes nil. */
void bind_push_borrowed(lua_State *L, pr_tensor *t);

/* The two halves of bind_push, for callers that must not lose a tensor when Lua runs out of memory: make the
 * userdata first ... */
pr_tensor **bind_slot(lua_State *L);
/* ... then put the tensor in (NULL raises). The slot's userdata is on top of the stack and is replaced if `t`
 * has one already. */
void bind_fill(lua_State *L, pr_tensor **slot, pr_tensor *t);

/* Read the value of a tensor: itself, or the masked value of a masked parameter (borrowed). Raises while
 * tracing. */
pr_tensor *bind_value(lua_State *L, pr_tensor *t, const char *what);
/* Is it a tensor of the meta device that no running trace made? It has no values; writes to it do nothing. */
bool bind_is_shape(const pr_tensor *t);
/* Raise if writing into `t` in place would make recorded gradients wrong. */
void bind_check_writable(lua_State *L, pr_tensor *t, const char *what);

/* Tell Lua's collector of `bytes` that it does not see; may run a collection. */
void bind_pressure(lua_State *L, size_t bytes);
/* Collect if much was allocated since the last time: for moments when much has just become garbage (after
 * backward). */
void bind_relieve(lua_State *L);

/* --- numbers and names ---------------------------------------------------------------------------------------------- */

/* The integer at `index` (3.0 passes), raising with `what` otherwise. */
lua_Integer bind_integer(lua_State *L, int index, const char *what);
/* A 1-based position, or negative from the end, as 0-based: checked against `size`. */
int64_t bind_position(lua_State *L, int index, int64_t size, const char *what);
/* A 1-based axis, or negative from the end, of a tensor with `dim` axes, as 0-based. */
int bind_axis(lua_State *L, int index, int dim, const char *what);
/* A shape from the numbers or the table at `index`: bind_shape(L, 1, ...) reads f(2, 3) and f { 2, 3 }.
 * Returns the number of axes and in *next the index of the first value after the shape. */
int bind_shape(lua_State *L, int index, int64_t shape[PR_MAX_DIM], int *next);
/* The dtype named at `index`; nil gives `otherwise`. */
pr_dtype bind_dtype(lua_State *L, int index, pr_dtype otherwise);
/* Raise for string keys of the table at `index` that are not in `names` (NULL-terminated), with the nearest
 * spelling. nil passes. */
void bind_check_names(lua_State *L, int index, const char *const *names, const char *what);

/* Push a list of integers as a table. */
void bind_push_integers(lua_State *L, int n, const int64_t *values);

/* --- operators ------------------------------------------------------------------------------------------------------ */

/* Call an operator with the values on the stack from index 1 on, in the calling convention of op.c; returns
 * the number of results. */
int bind_call_op(lua_State *L, const pr_op *op);
/* A copy with 1 subtracted (added) from every element: indices between Lua and C. Integer tensors with values
 * only; others are retained. */
pr_tensor *bind_shift(pr_tensor *t, int by);

/* The state that a core function was called from which may call back into Lua (gradient hooks). */
extern lua_State *bind_running;

/* --- the files of this folder ----------------------------------------------------------------------------------------- */

/* Methods of tensors; metamethods; fields that are read as t.name and written as t.name = value (functions of
 * t and of t, value). */
extern const luaL_Reg bind_tensor_methods[], bind_gradient_methods[], bind_parameter_methods[];
extern const luaL_Reg bind_tensor_fields[], bind_gradient_fields[], bind_parameter_fields[];
extern const luaL_Reg bind_tensor_meta[], bind_gradient_setters[];
/* Functions of prune.core. */
extern const luaL_Reg bind_core_functions[], bind_create_functions[], bind_gradient_functions[],
    bind_parameter_functions[], bind_graph_functions[], bind_select_functions[], bind_statistics_functions[],
    bind_data_functions[], bind_mask_functions[], bind_regularizer_functions[], bind_function_functions[],
    bind_io_functions[], bind_second_order_functions[];
void bind_open_handle(lua_State *L);   /* makes the metatable */
void bind_open_graph(lua_State *L);    /* adds Graph and Group to the table on top of the stack */
void bind_open_data(lua_State *L);     /* makes the metatables of data sets and loaders */
void bind_open_function(lua_State *L); /* makes the metatables of operators written in Lua */
void bind_open_io(lua_State *L);       /* makes the metatables of checkpoints under way */
void bind_open_ops(lua_State *L);      /* pushes the table of operators by name */
int bind_index(lua_State *L);          /* t[key] for keys that are not strings */
int bind_assign(lua_State *L);         /* t[key] = value for these */

/* Opens the module "prune.core". */
int luaopen_prune_core(lua_State *L);

#endif
