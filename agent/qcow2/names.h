/* SPDX-License-Identifier: Apache-2.0 */
/* names: the further files a qcow2 image names, and which we accept.  Pure. */
#ifndef AGENT_QCOW2_NAMES_H
#define AGENT_QCOW2_NAMES_H

#include <stdbool.h>

#include "proto/base/err.h"

/**
 * names_resolve(image, name, what, out, e): the path of the ${what} that the
 * image at path ${image} calls ${name}; relative ones start at the image's
 * folder.  Of an image with a URL it is a URL, too, and only relative ones are
 * known.  The caller frees ${out}.  ERR_UNSUP: not a plain path.
 */
int names_resolve(const char *image, const char *name, const char *what,
    char **out, struct err *e);

/**
 * names_format(image, format, raw, e): whether the backing format ${format} is
 * raw or qcow2.  ERR_INVAL: not told, and we do not guess; ERR_UNSUP.
 */
int names_format(
    const char *image, const char *format, bool *raw, struct err *e);

#endif
