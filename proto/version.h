/* SPDX-License-Identifier: Apache-2.0 */
/* version: of all three programs, which are released together.  What they
 * speak, and what lies on disk, have versions of their own. */
#ifndef PROTO_VERSION_H
#define PROTO_VERSION_H

#define BACKSTAY_VERSION "0.5"

#endif
