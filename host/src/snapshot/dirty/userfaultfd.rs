//! Finding changed pages by write protection in the page tables, without a fault reaching user space.
//!
//! The whole reservation is registered once for asynchronous write protection: the first write to a protected page clears
//! its bit in the page table and goes on. `PAGEMAP_SCAN` lists the pages whose bit is clear.
//!
//! On a shared mapping the kernel may drop a page-table entry at any time (reclaim); the page itself stays in the file. What
//! must not happen is that a written page looks clean then. So pages are protected even before they exist
//! (`WP_UNPOPULATED` leaves a marker in the page table, and a dropped entry keeps it), a page whose marker is missing counts as
//! written, and the scan asks for "written" alone: with any other category the kernel skips empty entries.
//!
//! Needs Linux 6.7; no privilege, as only faults of user space are handled (`UFFD_USER_MODE_ONLY`).
#![allow(unsafe_code, reason = "system calls that the standard library doesn't have")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use granary_core::page::PAGE_SIZE;

use super::mapping::Mapping;
use super::{Dirty, Span};

/// A registered reservation.
pub(super) struct Userfaultfd {
    fd: OwnedFd,
    pagemap: File,
    reservation: Range<usize>,
}

const API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioWriteprotect {
    start: u64,
    len: u64,
    mode: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

#[repr(C)]
#[derive(Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// The number of a request that reads and writes a `T`.
const fn request<T>(kind: u8, number: u8) -> libc::Ioctl {
    (3 << 30 | (size_of::<T>() as u64) << 16 | (kind as u64) << 8 | number as u64) as libc::Ioctl
}

const UFFDIO_API: libc::Ioctl = request::<UffdioApi>(0xaa, 0x3f);
const UFFDIO_REGISTER: libc::Ioctl = request::<UffdioRegister>(0xaa, 0x00);
const UFFDIO_WRITEPROTECT: libc::Ioctl = request::<UffdioWriteprotect>(0xaa, 0x06);
const PAGEMAP_SCAN: libc::Ioctl = request::<PmScanArg>(b'f', 16);

impl Userfaultfd {
    /// Registers the reservation, after trying everything out on a small one. An error says what is missing.
    pub(super) fn new(reservation: (*const u8, usize)) -> Result<Userfaultfd, String> {
        probe()?;
        Userfaultfd::register(reservation)
    }

    fn register((start, len): (*const u8, usize)) -> Result<Userfaultfd, String> {
        let fd = open()?;
        let mut api = UffdioApi {
            api: API,
            features: FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC,
            ioctls: 0,
        };
        control(&fd, UFFDIO_API, &mut api)
            .map_err(|error| format!("the kernel lacks asynchronous write protection: {error}"))?;
        let mut register = UffdioRegister {
            start: start as u64,
            len: len as u64,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        control(&fd, UFFDIO_REGISTER, &mut register)
            .map_err(|error| format!("memories can't be registered: {error}"))?;
        let pagemap = File::open("/proc/self/pagemap").map_err(|error| format!("/proc/self/pagemap: {error}"))?;
        let start = start as usize;
        Ok(Userfaultfd {
            fd,
            pagemap,
            reservation: start..start + len,
        })
    }

    /// The addresses of pages, checked to lie in the reservation.
    fn addresses(&self, span: &Span<'_>, pages: &Range<usize>) -> Range<u64> {
        let base = span.bytes.as_ptr() as usize;
        let addresses = base + pages.start * PAGE_SIZE..base + pages.end * PAGE_SIZE;
        assert!(pages.end * PAGE_SIZE <= span.bytes.len(), "pages of this span");
        assert!(
            base.is_multiple_of(PAGE_SIZE)
                && self.reservation.start <= addresses.start
                && addresses.end <= self.reservation.end,
            "a memory of the registered reservation"
        );
        addresses.start as u64..addresses.end as u64
    }
}

impl Dirty for Userfaultfd {
    fn sees_writes(&self) -> bool {
        true
    }

    fn arm(&self, span: &Span<'_>, pages: Range<usize>) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let addresses = self.addresses(span, &pages);
        let mut protect = UffdioWriteprotect {
            start: addresses.start,
            len: addresses.end - addresses.start,
            mode: WRITEPROTECT_MODE_WP,
        };
        loop {
            match control(&self.fd, UFFDIO_WRITEPROTECT, &mut protect) {
                // The address space is being changed elsewhere: nothing was done.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                result => return result,
            }
        }
    }

    fn scan(&self, span: &Span<'_>, pages: Range<usize>, found: &mut Vec<u32>) -> io::Result<()> {
        let addresses = self.addresses(span, &pages);
        let base = span.bytes.as_ptr() as u64;
        let mut regions = [PageRegion::default(); 64];
        let mut at = addresses.start;
        while at < addresses.end {
            let mut scan = PmScanArg {
                size: size_of::<PmScanArg>() as u64,
                flags: PM_SCAN_CHECK_WPASYNC,
                start: at,
                end: addresses.end,
                vec: regions.as_mut_ptr() as u64,
                vec_len: regions.len() as u64,
                category_mask: PAGE_IS_WRITTEN,
                return_mask: PAGE_IS_WRITTEN,
                ..PmScanArg::default()
            };
            let count = control_count(&self.pagemap, PAGEMAP_SCAN, &mut scan)?;
            for region in &regions[..count.min(regions.len())] {
                let page = |address: u64| ((address - base) / PAGE_SIZE as u64) as u32;
                found.extend(page(region.start)..page(region.end));
            }
            if scan.walk_end <= at {
                return Err(io::Error::other("the kernel's list of written pages makes no progress"));
            }
            at = scan.walk_end;
        }
        Ok(())
    }
}

fn open() -> Result<OwnedFd, String> {
    let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
    // SAFETY: takes flags only and returns a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd < 0 {
        return Err(format!("userfaultfd: {}", io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn control<T>(fd: &impl AsRawFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    control_count(fd, request, argument).map(drop)
}

/// An ioctl with the one argument that its number is made for.
fn control_count<T>(fd: &impl AsRawFd, request: libc::Ioctl, argument: &mut T) -> io::Result<usize> {
    // SAFETY: each request above is used with its own struct, whose size is part of the number. What the kernel writes is
    // inside of it, or inside the array that a scan names with its length. Protection changes no byte of any memory.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Tries all of it on a few pages of the kind that memories are: writes, a dropped entry, protecting again.
fn probe() -> Result<(), String> {
    const PAGES: usize = 8;
    let mut mapping = Mapping::new(PAGES * PAGE_SIZE).map_err(|error| format!("a memory file: {error}"))?;
    let userfaultfd = Userfaultfd::register(mapping.range())?;
    let scan = |mapping: &Mapping, expected: &[u32]| -> Result<(), String> {
        let mut found = Vec::new();
        userfaultfd
            .scan(&mapping.span(), 0..PAGES, &mut found)
            .map_err(|error| format!("PAGEMAP_SCAN: {error}"))?;
        if found == expected {
            Ok(())
        } else {
            Err(format!("PAGEMAP_SCAN found pages {found:?} instead of {expected:?}"))
        }
    };
    let arm = |mapping: &Mapping, pages| {
        userfaultfd
            .arm(&mapping.span(), pages)
            .map_err(|error| format!("write protection: {error}"))
    };
    mapping.bytes_mut()[PAGE_SIZE] = 1;
    arm(&mapping, 0..PAGES)?;
    scan(&mapping, &[])?;
    mapping.bytes_mut()[PAGE_SIZE] = 2;
    mapping.bytes_mut()[5 * PAGE_SIZE] = 2;
    scan(&mapping, &[1, 5])?;
    mapping.drop_entries();
    scan(&mapping, &[1, 5])?;
    arm(&mapping, 1..2)?;
    scan(&mapping, &[5])?;
    mapping.drop_entries();
    mapping.bytes_mut()[0] = 1;
    scan(&mapping, &[0, 5])
}
