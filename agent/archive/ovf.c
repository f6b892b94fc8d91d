/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/ovf.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/archive/form.h"

enum { CPUS_MAX = 1024, MEMORY_MIB = 1024, NICS_MAX = 8, PER_BUS = 15 };

/* Instances of devices: each has a number of its own. */
enum {
	ID_CPU = 1,
	ID_MEMORY,
	ID_NIC,
	ID_BUS = ID_NIC + NICS_MAX,
	ID_DISK = 30
};

/* CIM's numbers of systems: whoever is told none takes a guest for one of 32
 * bits, and may hide from it what it needs. */
enum { OS_OTHER = 1, OS_OTHER_64 = 102 };

/* DSP0243's numbers of what there is (CIM's resource types). */
enum {
	TYPE_CPU = 3,
	TYPE_MEMORY = 4,
	TYPE_SCSI = 6,
	TYPE_NIC = 10,
	TYPE_DISK = 17
};

struct machine {
	unsigned cpus;
	unsigned long memory_mib;
	unsigned nics;
	bool narrow; /* 32 bits */
	bool efi;
};

/* The number in the first <name ...>NUMBER<, and the unit that is told. */
static unsigned long
number_in(const char *text, const char *name, const char **unit)
{
	const char *p = strstr(text, name), *end;

	*unit = NULL;
	if (p == NULL)
		return 0;
	end = strchr(p, '>');
	*unit = strstr(p, "unit=");
	if (*unit != NULL && (end == NULL || *unit > end))
		*unit = NULL;
	return end != NULL ? strtoul(end + 1, NULL, 10) : 0;
}

/* Good enough for whoever imports it, who looks at it anyway. */
static struct machine
look_at(const char *text)
{
	struct machine m = { 1, MEMORY_MIB, 0, false, false };
	const char *unit;
	unsigned long n;

	if (text == NULL)
		return m;
	n = number_in(text, "<vcpu", &unit);
	if (n > 0 && n <= CPUS_MAX)
		m.cpus = (unsigned)n;
	n = number_in(text, "<memory", &unit);
	if (unit == NULL || strncmp(unit + 6, "KiB", 3) == 0)
		n /= 1024;
	else if (strncmp(unit + 6, "GiB", 3) == 0)
		n *= 1024;
	else if (strncmp(unit + 6, "MiB", 3) != 0)
		n = 0;
	if (n > 0 && n < 1ul << 32)
		m.memory_mib = n;
	m.narrow = strstr(text, " arch='i686'") != NULL;
	m.efi = strstr(text, " firmware='efi'") != NULL ||
	    strstr(text, " type='pflash'") != NULL;
	for (const char *p = text; (p = strstr(p, "<interface ")) != NULL; p++)
		if (m.nics < NICS_MAX)
			m.nics++;
	return m;
}

static void
print_files(const struct head *h, struct buf *b)
{
	buf_printf(b, "  <References>\n");
	for (unsigned i = 0; i < h->n; i++)
		buf_printf(b,
		    "    <File ovf:href=\"%s\" ovf:id=\"file%u\" "
		    "ovf:size=\"%llu\"/>\n",
		    h->member[i].name, i + 1,
		    (unsigned long long)h->member[i].size);
	buf_printf(b,
	    "  </References>\n  <DiskSection>\n"
	    "    <Info>The disks</Info>\n");
	for (unsigned i = 0; i < h->n; i++)
		buf_printf(b,
		    "    <Disk ovf:capacity=\"%llu\" "
		    "ovf:capacityAllocationUnits=\"byte\" "
		    "ovf:diskId=\"disk%u\" ovf:fileRef=\"file%u\" "
		    "ovf:format=\"http://www.vmware.com/interfaces/"
		    "specifications/vmdk.html#streamOptimized\"/>\n",
		    (unsigned long long)form_vmdk_capacity(
			h->manifest.volume[h->member[i].volume].size),
		    i + 1, i + 1);
	buf_printf(b, "  </DiskSection>\n");
}

/* Within an Item the schema wants the elements in the order of their names. */
static void
print_hardware(const struct head *h, const struct machine *m, struct buf *b)
{
	unsigned nbuses = (h->n + PER_BUS - 1) / PER_BUS;

	buf_printf(b,
	    "      <Item>\n"
	    "        <rasd:Description>Processors</rasd:Description>\n"
	    "        <rasd:ElementName>%u processors</rasd:ElementName>\n"
	    "        <rasd:InstanceID>%d</rasd:InstanceID>\n"
	    "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
	    "        <rasd:VirtualQuantity>%u</rasd:VirtualQuantity>\n"
	    "      </Item>\n",
	    m->cpus, ID_CPU, TYPE_CPU, m->cpus);
	buf_printf(b,
	    "      <Item>\n"
	    "        <rasd:AllocationUnits>byte * 2^20"
	    "</rasd:AllocationUnits>\n"
	    "        <rasd:Description>Memory</rasd:Description>\n"
	    "        <rasd:ElementName>%lu MB of memory</rasd:ElementName>\n"
	    "        <rasd:InstanceID>%d</rasd:InstanceID>\n"
	    "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
	    "        <rasd:VirtualQuantity>%lu</rasd:VirtualQuantity>\n"
	    "      </Item>\n",
	    m->memory_mib, ID_MEMORY, TYPE_MEMORY, m->memory_mib);
	for (unsigned i = 0; i < nbuses; i++)
		buf_printf(b,
		    "      <Item>\n"
		    "        <rasd:Address>%u</rasd:Address>\n"
		    "        <rasd:ElementName>SCSI %u</rasd:ElementName>\n"
		    "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
		    "        <rasd:ResourceSubType>lsilogic"
		    "</rasd:ResourceSubType>\n"
		    "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
		    "      </Item>\n",
		    i, i, ID_BUS + i, TYPE_SCSI);
	for (unsigned i = 0; i < m->nics; i++)
		buf_printf(b,
		    "      <Item>\n"
		    "        <rasd:AutomaticAllocation>true"
		    "</rasd:AutomaticAllocation>\n"
		    "        <rasd:Connection>network</rasd:Connection>\n"
		    "        <rasd:ElementName>Network card %u"
		    "</rasd:ElementName>\n"
		    "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
		    "        <rasd:ResourceSubType>E1000"
		    "</rasd:ResourceSubType>\n"
		    "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
		    "      </Item>\n",
		    i + 1, ID_NIC + i, TYPE_NIC);
	for (unsigned i = 0; i < h->n; i++)
		buf_printf(b,
		    "      <Item>\n"
		    "        <rasd:AddressOnParent>%u</rasd:AddressOnParent>\n"
		    "        <rasd:ElementName>%s</rasd:ElementName>\n"
		    "        <rasd:HostResource>ovf:/disk/disk%u"
		    "</rasd:HostResource>\n"
		    "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
		    "        <rasd:Parent>%u</rasd:Parent>\n"
		    "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
		    "      </Item>\n",
		    /* 7 is the controller's own. */
		    i % PER_BUS + (i % PER_BUS >= 7),
		    h->manifest.volume[h->member[i].volume].name, i + 1,
		    ID_DISK + i, ID_BUS + i / PER_BUS, TYPE_DISK);
}

void
ovf_print(const struct head *h, const char *definition, struct buf *out)
{
	struct machine m = look_at(definition);
	const char *name = strrchr(h->manifest.vm, '/');

	name = name != NULL ? name + 1 : h->manifest.vm;
	buf_printf(out,
	    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	    "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
	    "  xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
	    "  xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	    "CIM_ResourceAllocationSettingData\"\n"
	    "  xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	    "CIM_VirtualSystemSettingData\"\n"
	    "  xmlns:vmw=\"http://www.vmware.com/schema/ovf\">\n");
	print_files(h, out);
	if (m.nics > 0)
		buf_printf(out,
		    "  <NetworkSection>\n"
		    "    <Info>The networks</Info>\n"
		    "    <Network ovf:name=\"network\">\n"
		    "      <Description>Whatever it is to be connected with"
		    "</Description>\n"
		    "    </Network>\n  </NetworkSection>\n");
	buf_printf(out,
	    "  <VirtualSystem ovf:id=\"%s\">\n"
	    "    <Info>A virtual machine</Info>\n"
	    "    <Name>%s</Name>\n"
	    "    <OperatingSystemSection ovf:id=\"%d\" "
	    "vmw:osType=\"%s\">\n"
	    "      <Info>Nobody said which system it is</Info>\n"
	    "      <Description>%s</Description>\n"
	    "    </OperatingSystemSection>\n"
	    "    <VirtualHardwareSection>\n"
	    "      <Info>What it is made of</Info>\n"
	    "      <System>\n"
	    "        <vssd:ElementName>Virtual hardware"
	    "</vssd:ElementName>\n"
	    "        <vssd:InstanceID>0</vssd:InstanceID>\n"
	    "        <vssd:VirtualSystemIdentifier>%s"
	    "</vssd:VirtualSystemIdentifier>\n"
	    "        <vssd:VirtualSystemType>vmx-07"
	    "</vssd:VirtualSystemType>\n"
	    "      </System>\n",
	    name, name, m.narrow ? OS_OTHER : OS_OTHER_64,
	    m.narrow ? "otherGuest" : "otherGuest64",
	    m.narrow ? "Other" : "Other (64-bit)", name);
	print_hardware(h, &m, out);
	if (m.efi)
		buf_printf(out,
		    "      <vmw:Config ovf:required=\"false\" "
		    "vmw:key=\"firmware\" vmw:value=\"efi\"/>\n");
	buf_printf(out,
	    "    </VirtualHardwareSection>\n  </VirtualSystem>\n"
	    "</Envelope>\n");
}
