//! Names of hosts, looked up as the system does it: /etc/hosts, name servers, whatever nsswitch.conf says.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// The addresses of a host in the order to be tried, or the `EAI_` number of getaddrinfo(3). Blocks until the name servers
/// have answered or the resolver has given them up: with the usual settings up to 10 s for each of them.
pub fn resolve(name: &str) -> std::result::Result<Vec<IpAddr>, i32> {
    let name = CString::new(name).map_err(|_| libc::EAI_NONAME)?;
    // SAFETY: all fields of an addrinfo may be zero.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    // As Node does for connections: a host without IPv6 asks for no such addresses.
    hints.ai_flags = libc::AI_ADDRCONFIG;
    let mut list = ptr::null_mut();
    // SAFETY: the name ends with a NUL, hints and list live as long as the call.
    let failure = unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list) };
    if failure != 0 {
        return Err(failure);
    }
    let mut addresses = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: entries of the list are valid until it is freed.
        let info = unsafe { &*entry };
        // SAFETY: the address has the type that its family says.
        addresses.extend(unsafe { address_of(info) });
        entry = info.ai_next;
    }
    // SAFETY: the list came from getaddrinfo and is used no more.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

/// # Safety
/// `ai_addr` must point to an address of `ai_family`.
unsafe fn address_of(info: &libc::addrinfo) -> Option<IpAddr> {
    match info.ai_family {
        libc::AF_INET => {
            // SAFETY: as promised; read unaligned, since the pointer is of a type with a smaller alignment.
            let address = unsafe { info.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { info.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_as_they_are_written() {
        assert_eq!(resolve("127.0.0.9"), Ok(vec![IpAddr::from([127, 0, 0, 9])]));
        assert_eq!(resolve("2001:db8::1"), Ok(vec!["2001:db8::1".parse().expect("an address")]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(resolve("a\0b"), Err(libc::EAI_NONAME));
    }
}
