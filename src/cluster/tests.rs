//! One suite for all buses, with real servers and connections that are cut. It needs `redis-server` and `nats-server`.

mod cuts;
pub(super) mod engine;
mod lives;
mod order;
pub(super) mod support;
mod topics;

/// The tests of one bus.
macro_rules! suite {
    ($module:ident, $engine:ty, [$($file:ident::$test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$file::$test::<$engine>();
                }
            )*

            #[test]
            #[ignore = "ends the process; the next test runs it in one of its own"]
            fn panics() {
                super::cuts::panics::<$engine>();
            }

            #[test]
            fn a_panic_on_the_thread_of_the_bus_ends_the_process() {
                super::cuts::a_panic_ends_the_process::<$engine>(module_path!());
            }
        }
    };
}

/// The suite for a bus.
macro_rules! whole_suite {
    ($module:ident, $engine:ty) => {
        suite!(
            $module,
            $engine,
            [
                order::what_is_sent_after_the_confirmation_arrives,
                order::messages_of_one_node_keep_their_order,
                order::three_nodes_hear_each_message_and_their_own_once,
                order::any_bytes_are_passed_on,
                order::any_topic_has_messages_of_its_own,
                order::messages_over_the_bound_and_while_down_are_dropped_and_counted,
                order::what_is_told_is_taken,
                topics::a_hundred_thousand_topics_are_attached_and_again_after_a_cut,
                topics::a_server_killed_while_subscribing_has_all_topics_afterwards,
                topics::a_node_that_was_away_long_is_subscribed_again,
                topics::attach_and_detach_in_quick_turns_end_as_the_last_call_says,
                cuts::a_connection_that_hangs_is_given_up,
                cuts::a_slow_connection_is_no_lost_one,
                cuts::a_dropped_bus_ends_and_leaves_no_connection,
                cuts::an_outage_is_logged_once_and_not_per_attempt,
                lives::nodes_live_until_they_leave_or_die,
                lives::nobody_knows_who_lives_while_the_bus_is_down,
            ]
        );
    };
}

#[cfg(feature = "redis")]
whole_suite!(redis, crate::cluster::redis::tests::Redis);
#[cfg(feature = "nats")]
whole_suite!(nats, crate::cluster::nats::tests::Nats);
