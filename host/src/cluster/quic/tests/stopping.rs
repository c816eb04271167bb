//! What becomes of questions to a host that stops.

use super::*;

/// Until a host has taken on so many questions. One that is answered counts until the other side is known to have the answer.
async fn until_taken(to: &Side, questions: usize) {
    let taken = async {
        while to.quic.questions() != questions {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it's taken on");
}

/// A question that is taken on and never answered, to a host that has no other.
async fn endless(from: &Side, to: &Side) -> tokio::task::JoinHandle<Result<Bytes, CallError>> {
    until_taken(to, 0).await;
    let (quic, whom) = (from.quic.clone(), to.quic.me());
    let asking = tokio::spawn(async move { quic.call(whom, Bytes::from_static(b"endless"), PATIENCE).await });
    until_taken(to, 1).await;
    asking
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_sends_back_what_comes_too_late_and_counts_what_it_has_taken_on() {
    let authority = authority(1);
    let (a, b) = (side(1, &authority), side(2, &authority));
    a.quic.learn(host(2), b.quic.advertised());
    assert!(asked(&a, host(2)).await.is_ok());
    let _under_way = endless(&a, &b).await;
    b.quic.refuse();
    assert!(matches!(asked(&a, host(2)).await, Err(CallError::NotSent(_))));
    assert_eq!(b.quic.questions(), 1, "the earlier one is worked on");
}

/// Its sender may send a question again only if nobody has begun with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_says_whether_questions_without_an_answer_were_taken_on() {
    for is_answered in [true, false] {
        let authority = authority(1);
        let (a, b) = (side(1, &authority), side(2, &authority));
        a.quic.learn(host(2), b.quic.advertised());
        let asking = endless(&a, &b).await;
        b.quic.close(is_answered);
        let end = asking.await.unwrap();
        assert_eq!(matches!(end, Err(CallError::NotSent(_))), is_answered, "{end:?}");
        assert_eq!(matches!(end, Err(CallError::Unknown(_))), !is_answered, "{end:?}");
    }
}

/// Were they dated, a clock that was wrong when a host joined would keep it out once it's right.
#[test]
fn what_an_authority_signs_holds_whatever_its_clock_says() {
    let authority = authority(1);
    let applicant = Applicant::new(host(2)).unwrap();
    let signed = authority.admit(host(2), applicant.public_key()).unwrap();
    for certificate in [&signed[..], authority.certificate()] {
        let has = |text: &[u8]| certificate.windows(text.len()).any(|part| part == text);
        assert!(has(b"700101000000Z") && has(b"99991231000000Z"));
    }
}
